"""The app for development: `python app/app.py [RUNS, MODELS or TRACES ...]`."""

import sys

from erpo_hub.cli.app import run_app

run_app(sys.argv[1:])
