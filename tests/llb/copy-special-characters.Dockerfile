FROM base
COPY ["a&b", "c<d>", "/x/"]

# Characters that JSON escapes.
