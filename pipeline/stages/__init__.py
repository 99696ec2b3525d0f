"""The stages: each made once, kept under a name made from all of its settings, and then reused."""
