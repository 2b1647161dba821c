"""Lessons on the terminal: the pages of docs/course, read aloud, typed by the learner, and looked after."""
