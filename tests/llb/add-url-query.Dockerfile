FROM base
ADD {web}/a%20b?q=/y /x/
ADD {web}/ /y/

# What it is called.
