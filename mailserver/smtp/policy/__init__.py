"""What differs between port 25 and submission: who may send, to whom, and what is mended."""
