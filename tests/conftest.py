"""The tests run in the debug build: every race is watched by the detectors. tests/test_engines.py compares the builds."""

import os

os.environ["PTELAB_BUILD"] = "debug"
