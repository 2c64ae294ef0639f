"""Push to the Hugging Face hub.

upload.py  one commit, or none
errors.py  the hub's errors in words
"""

from .upload import check_push, push_folder
