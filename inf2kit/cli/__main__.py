from inf2kit.cli import main

main()
