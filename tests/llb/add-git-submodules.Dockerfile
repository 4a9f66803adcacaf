FROM base
ADD {git}/repo.git?submodules=false&keep-git-dir=1 /x/

# Without submodules.
