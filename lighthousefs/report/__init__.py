"""A time of the project as one page of HTML: `gather` asks what happened, `page` writes the file.

The page holds all it shows, as a deflated JSON object in base64: nothing in a name or a content is ever markup, and no
request leaves it.
"""
