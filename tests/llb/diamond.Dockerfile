FROM base AS root
RUN root
FROM root AS left
RUN mkdir /l
FROM root AS right
RUN mkdir /r
FROM root
COPY --from=left /bin /l
COPY --from=right /bin /r

# Two stages of one base, together again.
