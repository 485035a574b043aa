"""Is the line well, what is wrong, and what is to be done about it?"""
