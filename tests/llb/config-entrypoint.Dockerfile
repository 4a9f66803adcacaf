FROM full
ENTRYPOINT ["/e"]

# An ENTRYPOINT drops the CMD of the base.
