"""TRAIN: what ERPO adds to TRL, and what it trains on. May import `traces`."""
