"""The server has a page."""

from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("rillevents.serve", includes=["page/*"])
