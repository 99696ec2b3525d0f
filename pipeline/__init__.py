"""The command line and its stages: features, xgb, compare, predict. All that is printed is printed here."""
