"""`python -m services.monitor`"""

from millrace.runtime.main import main

from services.monitor.bootstrap import build

if __name__ == "__main__":
    main(build)
