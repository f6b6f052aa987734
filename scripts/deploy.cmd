@echo off
rem Deploys this checkout, from whichever folder it is called in.
setlocal
cd /d "%~dp0.."
where /q py && (py -3 bootstrap.py deploy %*) || (python bootstrap.py deploy %*)
