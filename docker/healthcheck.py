"""Exit 0 if the process in this container can do its work. The image has neither curl nor wget.

The argument is the port: 8000, an API process, when left out.
"""

import sys
import urllib.error
import urllib.request

port = sys.argv[1] if len(sys.argv) > 1 else "8000"
try:
    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=4)
except (urllib.error.URLError, OSError) as error:
    sys.exit(f"not ready: {error}")
