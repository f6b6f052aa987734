@echo off
rem Deploys this checkout, from whichever folder it is called in.
setlocal
cd /d "%~dp0.."
set "PYTHON=python"
where /q py && set "PYTHON=py -3"
%PYTHON% bootstrap.py deploy %*
