"""Which images are worth having ready, and for whom: image sets, their stores, pull records. Pure; time is an argument.

An image set is what the pods of one template need. It is prepared once as a store of its own, and a new instance starts
from a store only when its pod may have every image in it. So an instance never holds an image that its pod could not
pull: what runs on it, as root or not, has no other to read.
"""
