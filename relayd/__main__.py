"""`python -m relayd` is `relayd`."""

import sys

from relayd.cli import main

sys.exit(main())
