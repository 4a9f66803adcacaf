FROM empty
COPY a /

# An image without layers is as scratch.
