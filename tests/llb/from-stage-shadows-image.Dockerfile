FROM scratch AS base
COPY a /
FROM base
COPY b /

# A stage hides the image of its name.
