FROM base
COPY . /

# Characters that JSON escapes in it.
