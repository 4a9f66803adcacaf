FROM base
ADD {git}/repo.git#main:sub /x/

# A branch and a folder of it.
