"""`python -m vitask`, which `accelerate launch -m vitask` and `torchrun -m vitask` use."""

from vitask.cli.main import main

if __name__ == "__main__":
    main()
