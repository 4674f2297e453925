import time
def test_x(ball_run):
    print(sorted(str(p.relative_to(ball_run)) for p in ball_run.rglob("*") if p.is_file()))
    import torch
    s=torch.load(ball_run/"checkpoints/last.pt")
    print({k.rsplit('.',3)[0] for k in s["model"] if not k.startswith("encoder")})
