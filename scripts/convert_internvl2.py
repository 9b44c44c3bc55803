"""Turn an original InternVL2 checkpoint into transformers' own format, as `python -m vitask.vlm.convert_internvl2`."""

from vitask.vlm.convert_internvl2 import main

if __name__ == "__main__":
    main()
