from _bases import Split
from _correct import fetch
def split(job): Split(job).run()
