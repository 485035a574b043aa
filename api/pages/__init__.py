"""Pages for people: rendered here, complete without JavaScript, in Chinese and English."""
