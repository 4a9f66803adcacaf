FROM base
RUN cat <<one 3<<"two" >/x
1
one
2
two

# Several of them.
