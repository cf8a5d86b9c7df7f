"""What mitmdump is told to load: makes midstream's pure modules importable there, and nothing beside them.

mitmproxy has an environment of its own, with its own versions of everything, so the folder that holds this
package must not be on its path. The package alone is put in place, from the folder this file lies in.
"""

import importlib
import sys
import types
from pathlib import Path

if "midstream" not in sys.modules:
    _package = types.ModuleType("midstream")
    _package.__path__ = [str(Path(__file__).resolve().parent.parent)]
    sys.modules["midstream"] = _package

addons = [importlib.import_module("midstream.injectors._mitm_addon").Midstream()]
