"""The tests run in the debug build: detectors can watch. tests/test_engines.py compares it with the plain one."""

import os

os.environ["PTELAB_BUILD"] = "debug"
