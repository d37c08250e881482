"""The command line prints the manual's pages and the completion scripts, and loads its commands by name."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

hiddenimports = collect_submodules("rillevents.cli")
datas = collect_data_files(
    "rillevents", includes=["docs/*.md", "_completions/*", "shell/function.*sh", "shell/standalone.sh"]
)
