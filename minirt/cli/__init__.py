"""The command line. A verb is data (its flags, its help) and a short body; no logic lives here."""
