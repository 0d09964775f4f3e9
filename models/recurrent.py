"""Recurrent layers: an LSTM with peepholes as TensorFlow's, and the Dreem papers' residual GRU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.dropout import Dropout

State = tuple[Tensor, Tensor]


class PeepholeLSTM(nn.Module):
    """One direction, one layer: (b, l, d) and a state -> (b, l, h) and the state after it.

    Gates see the cell through one weight per unit (Gers & Schmidhuber 2000); one bias vector, to
    which the forget gate adds 1. Parameters: 4 h (d + h + 1) + 3 h.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden, inputs))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden, hidden))
        self.bias = nn.Parameter(torch.zeros(4 * hidden))
        self.peepholes = nn.Parameter(torch.zeros(3, hidden))  # input, forget, output
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights by Glorot, biases and peepholes 0."""
        for weight in (self.weight_ih, self.weight_hh):
            nn.init.xavier_uniform_(weight)
        for vector in (self.bias, self.peepholes):
            nn.init.zeros_(vector)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run over the sequence; without a state it begins at 0."""
        h, c = state or (x.new_zeros(len(x), self.hidden), x.new_zeros(len(x), self.hidden))
        # of all steps at once; only the recurrent product has to wait for the step before
        projected = nn.functional.linear(x, self.weight_ih, self.bias)
        see_input, see_forget, see_output = self.peepholes
        outputs = []
        for step in projected.unbind(dim=1):
            gates = step + h @ self.weight_hh.T
            i, f, g, o = gates.chunk(4, dim=1)  # torch's order; TensorFlow's is i, g, f, o
            # input and forget gate see the cell before this step, the output gate the one after
            keep = torch.sigmoid(f + 1.0 + see_forget * c)
            c = keep * c + torch.sigmoid(i + see_input * c) * torch.tanh(g)
            h = torch.sigmoid(o + see_output * c) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h, c)


class ResidualGRU(nn.Module):
    """Mean of a linear layer and a bidirectional GRU: (b, l, d) -> (b, l, 2 * hidden)."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 2 * hidden)
        self.rnn = nn.GRU(width, hidden, batch_first=True, bidirectional=True)
        self.dropout = Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        """Run over the sequence in both directions."""
        return self.dropout((self.linear(h) + self.rnn(h)[0]) / 2)
