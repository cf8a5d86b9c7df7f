"""The zoo's own modules import each other by name, as they do in the process of a driver."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
