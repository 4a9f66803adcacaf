FROM scratch
COPY a /
ENV A=1
CMD ["/a"]

# Of nothing.
