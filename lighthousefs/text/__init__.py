"""Texts of two moments: their lines, what differs between them, and how that is written. Pure.

`lines` cuts contents into lines and follows a file from version to version; `matching` finds the lines that two texts have in
common; `unified` writes what differs as git does; `blaming` gives each line to the version that made it.
"""
