"""The page: HTML, CSS and JavaScript in `static`, as they are, and the routes that give them out."""
