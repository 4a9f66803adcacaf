FROM full
CMD ["c"]
ENTRYPOINT e $X

# But not that of its own stage.
