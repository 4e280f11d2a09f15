"""What `compress` is made of: the sections of its file, the processes of its stages, their figures and the result."""
