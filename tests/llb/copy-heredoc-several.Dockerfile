FROM base
COPY a <<one <<two /x/
1
one
2
two

# Several, and a file.
