FROM base
COPY ["with space", "a", "/x y/"]

# The form for names with spaces.
