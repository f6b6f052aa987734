# Deploys this checkout, from whichever folder it is called in.
Push-Location (Split-Path -Parent $PSScriptRoot)
try {
    if (Get-Command py -ErrorAction SilentlyContinue) { & py -3 bootstrap.py deploy @args }
    else { & python bootstrap.py deploy @args }
    exit $LASTEXITCODE
}
finally { Pop-Location }
