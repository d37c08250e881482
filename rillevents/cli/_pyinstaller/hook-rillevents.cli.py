"""The command line prints the manual's pages and the completion scripts."""

from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("rillevents", includes=["docs/*.md", "_completions/*"])
