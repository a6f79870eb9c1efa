"""The built-in content filter: rules in SpamAssassin's format, and a classifier that learns.

`ContentFilter` is what the pipeline calls. Rules are data: `rulefile` reads them, `patterns` finds
all of them in a text at once, `views` says which texts a message has. The classifier is `model`,
fed by `tokens`; what users teach it comes through `lessons`.
"""
