"""Domain rules of the archive: dead letters, selection of events and pacing of replays."""
