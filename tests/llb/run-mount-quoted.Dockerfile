FROM base
RUN --mount=type=cache,"target=/a" one

# Quotes belong to the shell's words.
