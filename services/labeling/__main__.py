"""python -m services.labeling"""

from millrace.runtime.main import main

from services.labeling.bootstrap import build

main(build)
