"""A small container runtime that leaves networking to CNI plugins. Imports nothing here: start-up is the cost."""
