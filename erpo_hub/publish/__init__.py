"""SHARE: bundle, card, push, Space, job. Works from files and loads no torch."""
