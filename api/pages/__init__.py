"""Pages for people: rendered on the server, complete without JavaScript, in Chinese and English."""
