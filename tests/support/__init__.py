"""What the tests stand on: a private machine for each test, and judges that are not our own code."""
